"""The neural tangent hierarchy: what training does to the kernel of a two-layer network."""
