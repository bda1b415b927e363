"""From decoded frames to clips: views, transforms, augmentation, corruptions."""
