"""Published facts of AlterNet; its accuracies are in figures only."""

from mvit_video.models.published import ModelSize, Variant

ALTERNET = "arXiv:2202.06709"

PUBLISHED = {
    "alternet_18": Variant(ModelSize(1, 224, 9_968_803, 1_673_028_608), None, ALTERNET, "in figures only"),
    "alternet_34": Variant(ModelSize(1, 224, 22_833_054, 3_598_131_200), None, ALTERNET, "in figures only"),
    "alternet_50": Variant(ModelSize(1, 224, 35_915_038, 5_012_623_360), None, ALTERNET, "in figures only"),
    "alternet_101": Variant(ModelSize(1, 224, 54_907_166, 8_724_844_544), None, ALTERNET, "in figures only"),
    "alternet_152": Variant(ModelSize(1, 224, 70_550_814, 12_437_065_728), None, ALTERNET, "in figures only"),
}
