"""From rows to tables, statistics and the report."""
