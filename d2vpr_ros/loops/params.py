"""Every tunable of loop closure, with its unit, its meaning and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoopParams:
    """Tunables of the search for closures. Measured values come from simulated towns 540 to 542.

    Attributes:
        least_way_spacings: way since a place before it counts as the past; nearer ones show the same street still.
        candidates: most similar places that are looked at together.
        own_spacings: about the most similar place that are its own neighbourhood, no background for its similarity.
        least_z: standard deviations by which the most similar place stands out, below which no geometry is tried. One
            of a hundred right places is below 4.5 by day and 4.2 by dusk; the median of the wrong ones is at 3.5.
        neighbours: places that help to triangulate the landmarks of an old one, at most. Odometry places the nearest
            best: with four, closures err less than with the six of a map whose poses do not drift.
        most_apart_spacings: between the two ends of a closure; what stands further off shows another place.
        closure_factor: by which the covariance of a metric pose is larger than its landmarks say. With it the truth is
            inside the 95 % ellipsoid of 97 to 99 % of closures by day.
        closure_scale: error of a metric closure's length, as a share of it: the odometry's steps scale the landmarks.
        least_sigma_m, least_sigma_deg: of any closure; pictures are not taken exactly when the odometry says.
        place_sigma_spacings, place_sigma_deg: of a closure of kind `place`: both stand about one place.
        run_way_spacings: way over which closures have to agree with one another. This and `least_run_way_spacings` are
            in spacings that places really have, all others in those that were asked for.
        agree_m, agree_share, agree_deg: by which two closures may contradict each other, beside what their
            covariances allow: metres, and of the way between them.
        least_run, least_run_way_spacings: closures of a run that is accepted, and the way that they lie along.
        least_run_places: the same where no closure of the run is metric.
        least_probability: that one closure of a run has to have.
        alike_m: metres over which places may look alike that are not the same; the floors of a tower do over their
            whole length of 36 m.
        most_expected: by which the odds of a candidate rise at most for being where a drive that was aligned with the
            map has to be.
        drift, gate_m, gate_sigmas: a closure that moves the robot further than gate_sigmas times (gate_m + drift times
            the way since it was last sure) against the graph is refused; loose, because scale and gyro bias make
            errors that grow with the way.
        gate_deg, drift_deg: the same for the heading, degrees and degrees per metre.
        publish_spacings: between the accepted closures of one run that are kept; the solver needs no more.
        along, aside_m, yaw_deg: of an odometry step without a usable covariance: share of its length, and per square
            root of a metre aside and about any axis.
    """

    least_way_spacings: float = 30.0
    candidates: int = 3
    own_spacings: float = 15.0
    least_z: float = 4.0
    neighbours: int = 4
    most_apart_spacings: float = 8.0
    closure_factor: float = 1.5
    closure_scale: float = 0.02
    least_sigma_m: float = 0.01
    least_sigma_deg: float = 0.05
    place_sigma_spacings: float = 1.5
    place_sigma_deg: float = 10.0
    run_way_spacings: float = 8.0
    agree_m: float = 0.3
    agree_share: float = 0.03
    agree_deg: float = 2.0
    least_run: int = 3
    least_run_way_spacings: float = 2.0
    least_run_places: int = 6
    least_probability: float = 0.99
    alike_m: float = 40.0
    most_expected: float = 100.0
    drift: float = 0.03
    gate_m: float = 1.0
    gate_sigmas: float = 3.0
    gate_deg: float = 3.0
    drift_deg: float = 0.03
    publish_spacings: float = 3.0
    along: float = 0.02
    aside_m: float = 0.01
    yaw_deg: float = 0.1


DEFAULT_PARAMS = LoopParams()
