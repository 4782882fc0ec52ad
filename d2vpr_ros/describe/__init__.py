"""From an image to its descriptor."""

from d2vpr_ros.describe.extractor import Extractor
from d2vpr_ros.describe.identity import ModelIdentity
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.projection import Projection

__all__ = ["Extractor", "ModelIdentity", "Preprocessor", "Projection"]
