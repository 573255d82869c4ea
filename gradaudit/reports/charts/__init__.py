"""Records in, drawings out: one file per chart, each function returning one inline SVG element.

Quantities that span many orders of magnitude are drawn in decimal logarithms, because the
gradients of deep nets leave a float's range. ``width`` is in CSS pixels; ``prefix`` keeps the ids
of several drawings in one page apart.
"""
