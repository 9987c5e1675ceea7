"""How far a network is from its linearisation."""
