"""The rules of the field's benchmarks, one named protocol each: what counts as correct, and which queries count.

Two papers that say "Nordland" or "MSLS-val" may mean different images and different rules; a result is worth nothing
without its protocol, so it is printed with every one.
"""

from __future__ import annotations

from dataclasses import dataclass

D2VPR = "D²-VPR, 224 px, PCA 4096, no encoder (arXiv 2511.12528 and its README)"


@dataclass(frozen=True)
class Protocol:
    """One benchmark and its rule.

    Attributes:
        name: as `--benchmark` takes it.
        rule: what counts as correct, in words.
        counts: which queries count.
        pitfall: what else is published under this name, and what not to compare with.
        radius_m: a database image within this distance is correct; None where files list the correct ones.
        split: folder below images/ of the benchmark layout.
        prefix: of the npy files that list images and correct ones; empty for the benchmark layout.
        database, queries: images in the published set; 0 where no number is agreed on.
        published: recall@1/5/10 in percent to compare with.
        source: of the published recalls.
    """

    name: str
    rule: str
    counts: str
    pitfall: str
    radius_m: float | None = 25.0
    split: str = "test"
    prefix: str = ""
    database: int = 0
    queries: int = 0
    published: tuple[float, float, float] | None = None
    source: str = D2VPR


ALL_COUNT = "all queries; one without a correct image counts as missed"
_FRAME_M = 25 / 10.5  # of Nordland's file names: 10 frames are within 25 m, 11 are not

PITTS30K = Protocol(
    "pitts30k",
    "25 m between UTM positions",
    ALL_COUNT,
    "the 25 m and 40 degrees of some papers are in no published code; every panorama is 24 images at one position",
    database=10_000,
    queries=6_816,
    published=(91.7, 95.8, 96.8),
)
PITTS250K = Protocol(
    "pitts250k",
    "25 m between UTM positions",
    ALL_COUNT,
    "the test split, not the 30k subset of it",
    database=83_952,
    queries=8_280,
    published=(94.4, 98.3, 98.9),
)
SPED = Protocol(
    "sped",
    "the one image of the same camera",
    ALL_COUNT,
    "surveillance cameras without GPS: positions in the file names are made up, 1000 m a camera, so 25 m is the pair",
    database=607,
    queries=607,
    published=(86.0, 92.9, 94.1),
)
AMSTERTIME = Protocol(
    "amstertime",
    "the one photograph of the same view",
    ALL_COUNT,
    "positions in the file names are made up, 1000 m a pair, so 25 m is the pair; queries are historical and grey",
    database=1_231,
    queries=1_231,
    published=(49.1, 70.7, 76.1),
)
NORDLAND = Protocol(
    "nordland",
    "10 frames before or after (25 m of made-up positions)",
    ALL_COUNT,
    "database summer, queries winter; nordland-1 and nordland-2760 are stricter (of one model: 90.6 here, 81.3 there)",
    database=27_592,
    queries=27_592,
    published=(77.1, 88.6, 91.9),
)
NORDLAND_1 = Protocol(
    "nordland-1",
    "1 frame before or after",
    ALL_COUNT,
    "the images of `nordland` with the strict rule; published recalls with ±10 frames are no comparison",
    radius_m=1.5 * _FRAME_M,
    database=27_592,
    queries=27_592,
)
NORDLAND_2760 = Protocol(
    "nordland-2760",
    "1 frame before or after, as listed in Nordland_gt.npy",
    ALL_COUNT,
    "GSV-Cities' list: database winter, every tenth frame of summer asked, so the direction is the other one, too",
    radius_m=None,
    prefix="Nordland",
    database=27_592,
    queries=2_760,
)
MSLS_VAL = Protocol(
    "msls-val",
    "25 m, as listed in msls_val_gt_25m.npy (or msls_val_pIdx.npy)",
    "the 740 queries of Copenhagen and San Francisco that have a correct image; 7 of 747 have none and are left out",
    "msls-val-11k asks about 11 000 frames instead, and recalls of the two are no comparison",
    radius_m=None,
    prefix="msls_val",
    database=18_871,
    queries=740,
    published=(90.7, 95.4, 96.4),
)
MSLS_VAL_11K = Protocol(
    "msls-val-11k",
    "25 m between UTM positions",
    ALL_COUNT,
    "all frames of the query drives, not the 740 queries of `msls-val`, with which most published recalls are",
    split="val",
    database=18_871,
)
PITTS30K_VAL = Protocol(
    "pitts30k-val",
    "25 m, as listed in pitts30k_val_gt_25m.npy (or pitts30k_val_gt.npy)",
    ALL_COUNT,
    "for choosing weights; results are reported on the test split, `pitts30k`",
    radius_m=None,
    prefix="pitts30k_val",
    database=10_000,
    queries=7_608,
)
SPED_NPY = Protocol(
    "sped-npy",
    "the one image of the same camera, as listed in SPED_gt.npy",
    ALL_COUNT,
    "the images of `sped` as VPR-Bench distributes them, in ref/ and query/",
    radius_m=None,
    prefix="SPED",
    database=607,
    queries=607,
    published=(86.0, 92.9, 94.1),
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        PITTS30K,
        PITTS250K,
        MSLS_VAL,
        MSLS_VAL_11K,
        SPED,
        SPED_NPY,
        AMSTERTIME,
        NORDLAND,
        NORDLAND_1,
        NORDLAND_2760,
        PITTS30K_VAL,
    )
}


def described(protocol: Protocol, database: int, queries: int, without_correct: int) -> list[str]:
    """What is printed with a result: the rule, which queries count, pitfalls, and where the set differs."""
    lines = [f"correct: {protocol.rule}", f"counted: {protocol.counts}", f"beware: {protocol.pitfall}"]
    for what, found, expected in (("database", database, protocol.database), ("queries", queries, protocol.queries)):
        if expected and found != expected:
            lines.append(f"differs: {found} images in the {what}, the published set has {expected}")
    if without_correct:
        lines.append(f"{without_correct} queries have no correct image in the database")
    if protocol.published:
        lines.append("published: {:.1f} / {:.1f} / {:.1f}".format(*protocol.published) + f", {protocol.source}")
    return lines
