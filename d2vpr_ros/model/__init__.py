"""The networks (torch only): D²-VPR at two sizes, its inference form, and its teacher."""

from d2vpr_ros.model.checkpoint import load_checkpoint
from d2vpr_ros.model.config import CONFIGS, NANO, SMALL, AdapterWidths, D2VPRConfig
from d2vpr_ros.model.cricavpr import CricaVPR
from d2vpr_ros.model.d2vpr import D2VPR
from d2vpr_ros.model.fuse import FusedD2VPR, fuse

__all__ = [
    "CONFIGS",
    "D2VPR",
    "NANO",
    "SMALL",
    "AdapterWidths",
    "CricaVPR",
    "D2VPRConfig",
    "FusedD2VPR",
    "fuse",
    "load_checkpoint",
]
