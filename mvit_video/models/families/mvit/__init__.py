"""MViT, MViTv2 and CPVT."""
