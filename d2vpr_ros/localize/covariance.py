"""How far from the matched place the robot may stand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# A descriptor forgives a shift of the viewpoint of about a keyframe spacing and a small turn.
_SIGMA_SPACINGS = 1.5
_SIGMA_TURN = np.radians(10.0)


def place_covariance(agreeing: npt.NDArray[np.float64], spacing_m: float) -> npt.NDArray[np.float64]:
    """Covariance of an answer that is the pose of the matched place.

    Args:
        agreeing: (M, 3) base positions of the candidates around the answer, the answer among them, metres.
        spacing_m: keyframe spacing of the map.

    Returns:
        (6, 6) float64, diagonal, positive: metres² and radians², over (x, y, z, rotation about x, y, z).
    """
    spread = agreeing.var(axis=0).mean() if len(agreeing) > 1 else 0.0
    position = (_SIGMA_SPACINGS * spacing_m) ** 2 + spread
    return np.diag([position] * 3 + [_SIGMA_TURN**2] * 3)
