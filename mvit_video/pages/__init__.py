"""HTML pages and figures in one look, light and dark."""
