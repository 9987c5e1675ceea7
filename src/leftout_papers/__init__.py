"""Published tables and figures computed again, with what is printed beside what is measured."""
