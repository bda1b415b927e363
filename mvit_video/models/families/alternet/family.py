"""AlterNet as a `Family`."""

from mvit_video.models.families.alternet import variants
from mvit_video.models.families.alternet.net import AlterNet
from mvit_video.models.families.alternet.published import PUBLISHED
from mvit_video.models.families.alternet.weights import AlterNetWeights
from mvit_video.models.family import Family

FAMILY = Family(AlterNet, (variants,), PUBLISHED, AlterNetWeights())
