"""Things of a picture moved along strokes: what is drawn, how far each pixel comes, and the clip that a cut-out would make."""
