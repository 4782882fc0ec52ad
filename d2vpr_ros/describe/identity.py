"""What makes two descriptors comparable."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields


@dataclass(frozen=True)
class ModelIdentity:
    """What has to be equal for two descriptors to be comparable; backend, device and precision are no part of it.

    Attributes:
        architecture: the network's size by name.
        weights_sha256: of the weights file, hexadecimal.
        preprocessing: `Preprocessor.hash`.
        projection: `Projection.hash`, empty without one.
        projection_fitted_on: in words, what the projection was fitted on; says nothing about comparability.
    """

    architecture: str
    weights_sha256: str
    preprocessing: str
    projection: str
    projection_fitted_on: str = field(default="", compare=False)

    def differences(self, other: ModelIdentity) -> str:
        """The fields that differ, in words; empty if none does."""
        mine, theirs = asdict(self), asdict(other)
        compared = [f.name for f in fields(self) if f.compare]
        return ", ".join(
            f"{name} {mine[name][:12] or 'none'} against {theirs[name][:12] or 'none'}"
            for name in compared
            if mine[name] != theirs[name]
        )
