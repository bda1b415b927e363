"""Tables of videos: paths, labels, spans, and the names of classes."""
