"""MViT, MViTv2 and CPVT as a `Family`."""

from mvit_video.models.families.mvit import variants, variants_v2
from mvit_video.models.families.mvit.net import MViT
from mvit_video.models.families.mvit.published import PUBLISHED
from mvit_video.models.families.mvit.weights import MViTWeights
from mvit_video.models.family import Family

FAMILY = Family(MViT, (variants, variants_v2), PUBLISHED, MViTWeights())
