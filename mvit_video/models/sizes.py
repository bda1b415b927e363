"""Sizes of the named models, stated so that a list of them need not build any; a test builds them all and compares."""

from __future__ import annotations

from typing import NamedTuple


class ModelSize(NamedTuple):
    """Input and cost of a model as its builder makes it.

    Attributes:
        multiply_adds: of one clip.
    """

    num_frames: int
    crop_size: int
    num_parameters: int
    multiply_adds: int


SIZES = {
    "alternet_101": ModelSize(1, 224, 54_907_166, 8_724_844_544),
    "alternet_152": ModelSize(1, 224, 70_550_814, 12_437_065_728),
    "alternet_18": ModelSize(1, 224, 9_968_803, 1_673_028_608),
    "alternet_34": ModelSize(1, 224, 22_833_054, 3_598_131_200),
    "alternet_50": ModelSize(1, 224, 35_915_038, 5_012_623_360),
    "cpvt_b": ModelSize(1, 224, 86_424_040, 17_565_182_976),
    "cpvt_b_gap": ModelSize(1, 224, 86_453_992, 17_478_423_552),
    "cpvt_b_plus": ModelSize(1, 224, 86_454_760, 17_570_601_984),
    "cpvt_s": ModelSize(1, 224, 21_978_856, 4_599_559_680),
    "cpvt_s_gap": ModelSize(1, 224, 21_993_832, 4_577_413_632),
    "cpvt_s_plus": ModelSize(1, 224, 21_994_216, 4_602_269_184),
    "cpvt_ti": ModelSize(1, 224, 5_681_512, 1_254_021_888),
    "cpvt_ti_gap": ModelSize(1, 224, 5_689_000, 1_248_257_280),
    "cpvt_ti_plus": ModelSize(1, 224, 5_689_192, 1_255_376_640),
    "mvit_b24_32x3": ModelSize(32, 224, 53_115_280, 235_775_815_680),
    "mvit_b_16": ModelSize(1, 224, 36_982_600, 7_809_333_696),
    "mvit_b_16x4": ModelSize(16, 224, 36_610_672, 70_599_407_808),
    "mvit_b_32x3": ModelSize(32, 224, 36_611_440, 169_958_123_712),
    "mvit_b_64x3": ModelSize(64, 224, 36_612_976, 455_061_768_384),
    "mvit_s_16x4": ModelSize(16, 224, 26_038_032, 29_947_230_464),
    "mvitv2_b": ModelSize(1, 224, 51_472_744, 10_102_438_656),
    "mvitv2_b_32x3": ModelSize(32, 224, 51_230_128, 224_472_840_192),
    "mvitv2_l": ModelSize(1, 224, 217_992_952, 43_711_209_216),
    "mvitv2_l_40x3": ModelSize(40, 312, 213_390_112, 2_823_404_064_192),
    "mvitv2_s": ModelSize(1, 224, 34_870_216, 6_959_715_072),
    "mvitv2_s_16x4": ModelSize(16, 224, 34_537_744, 64_223_815_872),
    "mvitv2_t": ModelSize(1, 224, 24_173_320, 4_676_957_952),
    "pvt_huge": ModelSize(1, 224, 304_945_512, 50_492_915_712),
    "pvt_large": ModelSize(1, 224, 61_369_320, 9_813_765_632),
    "pvt_medium": ModelSize(1, 224, 44_208_104, 6_659_175_424),
    "pvt_small": ModelSize(1, 224, 24_485_864, 3_815_701_504),
    "pvt_tiny": ModelSize(1, 224, 13_229_288, 1_932_911_616),
    "pvt_v2_b0": ModelSize(1, 224, 3_666_760, 566_065_664),
    "pvt_v2_b1": ModelSize(1, 224, 14_009_000, 2_108_355_584),
    "pvt_v2_b2": ModelSize(1, 224, 25_362_856, 4_026_734_592),
    "pvt_v2_b2_li": ModelSize(1, 224, 22_553_512, 3_888_850_944),
    "pvt_v2_b3": ModelSize(1, 224, 45_238_696, 6_897_303_552),
    "pvt_v2_b4": ModelSize(1, 224, 62_556_072, 10_101_116_416),
    "pvt_v2_b5": ModelSize(1, 224, 81_956_008, 11_717_260_288),
    "twins_pcpvt_base": ModelSize(1, 224, 43_828_456, 6_652_933_888),
    "twins_pcpvt_large": ModelSize(1, 224, 60_989_672, 9_807_524_096),
    "twins_pcpvt_small": ModelSize(1, 224, 24_106_216, 3_809_459_968),
}
