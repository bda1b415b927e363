"""PVT, PVTv2 and Twins-PCPVT."""
