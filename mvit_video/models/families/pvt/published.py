"""Published facts of PVT, PVTv2 and Twins-PCPVT."""

from mvit_video.models.published import ModelSize, Variant

PVT, PVT_V2, TWINS = "arXiv:2102.12122", "arXiv:2106.13797", "arXiv:2104.13840"

PUBLISHED = {
    "pvt_tiny": Variant(ModelSize(1, 224, 13_229_288, 1_932_911_616), 75.1, PVT),
    "pvt_small": Variant(ModelSize(1, 224, 24_485_864, 3_815_701_504), 79.8, PVT),
    "pvt_medium": Variant(ModelSize(1, 224, 44_208_104, 6_659_175_424), 81.2, PVT),
    "pvt_large": Variant(ModelSize(1, 224, 61_369_320, 9_813_765_632), 81.7, PVT),
    "pvt_huge": Variant(ModelSize(1, 224, 304_945_512, 50_492_915_712), None, PVT, "none"),
    "twins_pcpvt_small": Variant(ModelSize(1, 224, 24_106_216, 3_809_459_968), 81.2, TWINS),
    "twins_pcpvt_base": Variant(ModelSize(1, 224, 43_828_456, 6_652_933_888), 82.7, TWINS),
    "twins_pcpvt_large": Variant(ModelSize(1, 224, 60_989_672, 9_807_524_096), 83.1, TWINS),
    "pvt_v2_b0": Variant(ModelSize(1, 224, 3_666_760, 566_065_664), 70.5, PVT_V2),
    "pvt_v2_b1": Variant(ModelSize(1, 224, 14_009_000, 2_108_355_584), 78.7, PVT_V2),
    "pvt_v2_b2": Variant(ModelSize(1, 224, 25_362_856, 4_026_734_592), 82.0, PVT_V2),
    "pvt_v2_b2_li": Variant(ModelSize(1, 224, 22_553_512, 3_888_850_944), 82.1, PVT_V2),
    "pvt_v2_b3": Variant(ModelSize(1, 224, 45_238_696, 6_897_303_552), 83.1, PVT_V2),
    "pvt_v2_b4": Variant(ModelSize(1, 224, 62_556_072, 10_101_116_416), 83.6, PVT_V2),
    "pvt_v2_b5": Variant(ModelSize(1, 224, 81_956_008, 11_717_260_288), 83.8, PVT_V2),
}
