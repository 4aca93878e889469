"""Every diagnostic as tables for Tableau: one star schema; CSV, ``.hyper`` and a finished workbook are made from it."""
