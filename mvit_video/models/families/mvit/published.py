"""Published facts of MViT, MViTv2 and CPVT."""

from mvit_video.models.published import IMAGENET_MEAN, IMAGENET_STD, ModelSize, TrainingFacts, Variant

MVIT, MVIT_V2, CPVT = "arXiv:2104.11227", "arXiv:2112.01526", "arXiv:2102.10882"
K400, K600 = "Kinetics-400", "Kinetics-600"
CLIPS_5, CLIPS_3_CROPS_3, CLIPS_5_CROPS_3 = "5 clips x 1 crop", "3 clips x 3 crops", "5 clips x 3 crops"
X4, X3 = TrainingFacts(sampling_rate=4), TrainingFacts(sampling_rate=3)  # SlowFast's mean and std
IMAGENET_X3 = TrainingFacts(IMAGENET_MEAN, IMAGENET_STD, sampling_rate=3)

PUBLISHED = {
    "mvit_b_16x4": Variant(ModelSize(16, 224, 36_610_672, 70_599_407_808), 78.4, MVIT, K400, CLIPS_5, X4),
    "mvit_b_32x3": Variant(ModelSize(32, 224, 36_611_440, 169_958_123_712), 80.2, MVIT, K400, CLIPS_5, X3),
    "mvit_b_64x3": Variant(ModelSize(64, 224, 36_612_976, 455_061_768_384), 81.2, MVIT, K400, CLIPS_3_CROPS_3, X3),
    "mvit_b24_32x3": Variant(ModelSize(32, 224, 53_115_280, 235_775_815_680), 83.8, MVIT, K600, CLIPS_5, X3),
    "mvit_s_16x4": Variant(ModelSize(16, 224, 26_038_032, 29_947_230_464), 76.0, MVIT, K400, CLIPS_5, X4),
    "mvit_b_16": Variant(ModelSize(1, 224, 36_982_600, 7_809_333_696), 83.0, MVIT),
    "mvitv2_s_16x4": Variant(ModelSize(16, 224, 34_537_744, 64_223_815_872), 81.0, MVIT_V2, K400, CLIPS_5, X4),
    "mvitv2_b_32x3": Variant(ModelSize(32, 224, 51_230_128, 224_472_840_192), 82.9, MVIT_V2, K400, CLIPS_5, X3),
    "mvitv2_l_40x3": Variant(
        ModelSize(40, 312, 213_390_112, 2_823_404_064_192),
        86.1,
        MVIT_V2,
        "Kinetics-400, from ImageNet-21K",
        CLIPS_5_CROPS_3,
        IMAGENET_X3,
    ),
    "mvitv2_t": Variant(ModelSize(1, 224, 24_173_320, 4_676_957_952), 82.3, MVIT_V2),
    "mvitv2_s": Variant(ModelSize(1, 224, 34_870_216, 6_959_715_072), 83.6, MVIT_V2),
    "mvitv2_b": Variant(ModelSize(1, 224, 51_472_744, 10_102_438_656), 84.4, MVIT_V2),
    "mvitv2_l": Variant(ModelSize(1, 224, 217_992_952, 43_711_209_216), 85.3, MVIT_V2),
    "cpvt_ti": Variant(ModelSize(1, 224, 5_681_512, 1_254_021_888), 72.4, CPVT),
    "cpvt_ti_plus": Variant(ModelSize(1, 224, 5_689_192, 1_255_376_640), 73.4, CPVT),
    "cpvt_ti_gap": Variant(ModelSize(1, 224, 5_689_000, 1_248_257_280), 74.9, CPVT),
    "cpvt_s": Variant(ModelSize(1, 224, 21_978_856, 4_599_559_680), 79.9, CPVT),
    "cpvt_s_plus": Variant(ModelSize(1, 224, 21_994_216, 4_602_269_184), 80.5, CPVT),
    "cpvt_s_gap": Variant(ModelSize(1, 224, 21_993_832, 4_577_413_632), 81.5, CPVT),
    "cpvt_b": Variant(ModelSize(1, 224, 86_424_040, 17_565_182_976), 81.9, CPVT),
    "cpvt_b_plus": Variant(ModelSize(1, 224, 86_454_760, 17_570_601_984), None, CPVT, "not looked up"),
    "cpvt_b_gap": Variant(ModelSize(1, 224, 86_453_992, 17_478_423_552), None, CPVT, "not looked up"),
}
