"""What a person sees: the audit, its report and its files, the command line."""
