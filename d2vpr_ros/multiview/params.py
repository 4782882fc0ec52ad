"""Every tunable of the geometry, with its unit, its meaning and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GeometryParams:
    """Tunables of matching, landmarks and resection. Fitted values come from simulated towns 510 to 519.

    Attributes:
        least_cosine: two descriptors below are no match. 0.7 answers 85 % of night images where XFeat's usual 0.8
            answers 65 %; alignment and geometry remove the wrong matches that it lets in.
        alignment_window: pixels, side of the patch that moves a matched point to a fraction of a pixel.
        alignment_most: pixels that this may move a point; more is another point.
        contrast_window: pixels, side of the square within which a picture's local contrast is made alike.
        neighbours: places that help to triangulate the landmarks of one, at most.
        most_turn_deg: two cameras turned further apart see too little in common.
        least_parallax_deg: between two rays to a landmark; below, its depth is a guess.
        inlier_px: reprojection error of an inlier at the stored picture's size.
        point_sigma_px: deviation of an aligned point; measured in towns with exact poses.
        loss_scale: deviations at which the robust (Geman-McClure and Cauchy) losses begin to doubt a residual.
        position_sigma, rotation_sigma_deg: of a map pose of which the map states no covariance, as a share of the
            distance to the nearest neighbour and in degrees: 0.1 m where places are 2 m apart.
        least_position_sigma_m: however near places are; SLAM with a hand-held camera errs by centimetres.
        least_inliers: a pose with fewer is no pose. Images of wrong places reach 11 at night, 25 by day.
        pooled_places: candidates whose landmarks are used together.
        ground_height_sigma_m, ground_tilt_sigma_deg: how exactly a robot on the ground has the height, roll and pitch
            that the place tells.
        ground_most_tilt_deg: a pose that is tilted further against that is none: its lens is not what was assumed, such
            as that of pictures which were cut.
        centre_sigma: of the optical centre of a camera that nobody calibrated from the middle, over the longer side.
        covariance_factor: of a pose, beside what residuals and the share of matches that fit say: landmarks of one
            place err together. Fitted to the errors of 296 images of three towns.
        kept_views, kept_landmarks: places whose features, and whose landmarks and pictures, are kept in memory; about
            0.2 MB each, 141 MB when both are full.
    """

    least_cosine: float = 0.7
    alignment_window: int = 15
    alignment_most: float = 5.0
    contrast_window: int = 31
    neighbours: int = 6
    most_turn_deg: float = 40.0
    least_parallax_deg: float = 1.0
    inlier_px: float = 3.0
    point_sigma_px: float = 1.0
    loss_scale: float = 2.0
    position_sigma: float = 0.05
    rotation_sigma_deg: float = 0.6
    least_position_sigma_m: float = 0.02
    least_inliers: int = 12
    pooled_places: int = 3
    ground_height_sigma_m: float = 0.1
    ground_tilt_sigma_deg: float = 1.0
    ground_most_tilt_deg: float = 5.0
    centre_sigma: float = 0.02
    covariance_factor: float = 2.0
    kept_views: int = 256
    kept_landmarks: int = 512


DEFAULT_PARAMS = GeometryParams()
