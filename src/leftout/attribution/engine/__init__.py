"""What is left out, computed: one class per kind of training time."""
