"""PVT, PVTv2 and Twins-PCPVT as a `Family`."""

from mvit_video.models.families.pvt import variants
from mvit_video.models.families.pvt.net import PVT
from mvit_video.models.families.pvt.published import PUBLISHED
from mvit_video.models.families.pvt.weights import PVTWeights
from mvit_video.models.family import Family

FAMILY = Family(PVT, (variants,), PUBLISHED, PVTWeights())
