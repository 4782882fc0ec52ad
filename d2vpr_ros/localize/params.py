"""Every tunable of the localizer, with its unit, its meaning and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LocalizerParams:
    """Lengths scale with the map: its spacing, and `alike_m`, how far along its drives places look alike.

    Fitted values come from `python -m models.fit_localizer` on towns 500 to 502, which no figure of the docs is taken
    from. Those of places that are held were chosen by hand, by the log score of whole drives through these towns.

    Attributes:
        candidates: places that an image is looked up among. More find nothing sooner.
        hypotheses, births: that are kept, and that one image may begin. Bound the time an image takes.
        neighbours: places about a hypothesis that its image is held against; within 3 `place_sigma` there are fewer.
        place_sigma, place_sigma_spacings: deviation of where an image is taken from the place that it resembles most,
            over `alike_m` and over the spacing; the larger counts. Measured on robots that drive a lane aside.
        least_spacing_m: nearer places count as so far apart: a robot strays as far from the way that was recorded.
        place_turn_deg: the same of the heading.
        view_turn_deg: an image turned further away does not show a place; the rear view of most cameras.
        reach_spacings: a robot further from every place is where the map shows nothing: a spacing past the end, and
            half of one for a lane aside.
        goes_on: chance that a street past its last place goes on looking like it: 1 of 30 images, measured on drives of
            which half was mapped.
        hazard: chance, for an image a spacing on, that the robot is not where its motion leads: it was carried, or the
            odometry is wrong and does not show it. A choice: once in a thousand spacings.
        hazard_by_sight: the same without odometry, which shows turns and ends that images show late.
        hazard_anew: where the odometry begins anew or breaks off. Even odds.
        drift, drift_turn: deviation of odometry, as a share of a motion's length and of its turn: wheels on a floor.
        drift_deg: of the heading on a straight way, degrees for the first metre, growing with its root.
        speed_sigma: deviation of the position by sight, over what the top speed allows.
        velocity_gain: share of a correction by sight that is taken for a change of the velocity (alpha-beta filter).
        turn_rate_deg: of the heading by sight, degrees a second.
        longest_s: seconds without an image after which a robot may be anywhere.
        new_turn_deg: a turn that shows as much new as a spacing: half of a usual field of view.
        least_change: share of a neighbouring place's change from which an image is a new one, by sight.
        soft_from, soft_slope: z-scores count less from here on: of many images no single one decides.
        forgets: share of the mean z-score that a new image replaces.
        geometry_groups: groups of places that an image is compared with, at most; their cost is that of the network.
        geometry_every: of an image a localized robot is compared with landmarks again.
        pose_inliers, pose_share, pose_spread, pose_residual, pose_offset: log-likelihood ratio of a pose at its own
            place against elsewhere, for the logarithm of its inliers, that of their share of the landmarks in view,
            their spread over the picture, a pixel of residual, and for any pose; fitted.
        most_pose_ratio: that no pose exceeds. A choice: wrong poses reached 6 in 14 000 comparisons.
        absent_ratio: of an image without a pose at a place that has landmarks: 7 of 100 at the right one, 92 elsewhere,
            of the places that whole drives compare; among the most alike places of single images -3.1 is fitted.
        pose_weight: share of these ratios which tells the place itself from one built alike; fitted.
        pose_weight_held: the same of a hypothesis from earlier images: where facades repeat, one wrong pose follows
            another. Chosen by the log score of whole drives.
        inlier_sigma: deviation of the logarithm of the number of inliers from that of the images before: 0.3 on towns,
            more of a hand-held camera in a room.
        unusual: share of images at the right place that have another number: 3 of 100 are two deviations off; measured.
        unusual_forgets: share of the mean of that logarithm that a new image replaces. A choice.
        likeness, likeness_from: log-odds of the place itself against one that looks like it, for each standard
            deviation by which an image resembles it more than this above the best of the map by chance; fitted.
        likeness_held_from: the same for a place where the robot is expected, not chosen as the most alike. Chosen by
            the log score of whole drives.
        most_likeness: of one image. Chosen by the log score of whole drives, and so that a robot is silent in a street
            that is not in the map.
        repeats: power in which what images tell of the place itself is added: of n alike ones the root of n counts.
        repeats_witnessed: the same where images are compared with metric landmarks, which tell look-alikes apart.
            Chosen so that a robot that leaves the map without odometry is silent; 1 has the better log score on it.
        correlated_spacings: way over which the correlation of two answers' errors falls to 1/e; measured.
    """

    candidates: int = 200
    hypotheses: int = 48
    births: int = 24
    neighbours: int = 8
    place_sigma: float = 0.12
    place_sigma_spacings: float = 0.45
    least_spacing_m: float = 0.3
    place_turn_deg: float = 10.0
    view_turn_deg: float = 40.0
    reach_spacings: float = 1.5
    goes_on: float = 0.03
    hazard: float = 1e-3
    hazard_by_sight: float = 5e-3
    hazard_anew: float = 0.5
    drift: float = 0.05
    drift_turn: float = 0.05
    drift_deg: float = 0.2
    speed_sigma: float = 0.5
    velocity_gain: float = 0.3
    turn_rate_deg: float = 30.0
    longest_s: float = 60.0
    new_turn_deg: float = 40.0
    least_change: float = 0.3
    soft_from: float = 8.0
    soft_slope: float = 0.25
    forgets: float = 0.05
    geometry_groups: int = 3
    geometry_every: float = 0.25
    pose_inliers: float = 1.68
    pose_share: float = 2.33
    pose_spread: float = 2.57
    pose_residual: float = -1.23
    pose_offset: float = 3.01
    most_pose_ratio: float = 10.0
    absent_ratio: float = -2.5
    pose_weight: float = 0.84
    pose_weight_held: float = 0.35
    inlier_sigma: float = 0.4
    unusual: float = 0.05
    unusual_forgets: float = 0.3
    likeness: float = 1.62
    likeness_from: float = 1.73
    likeness_held_from: float = 0.5
    most_likeness: float = 2.5
    repeats: float = 2.0
    repeats_witnessed: float = 1.5
    correlated_spacings: float = 7.0


DEFAULT_PARAMS = LocalizerParams()
