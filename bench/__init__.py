"""Measures the budgets of the design against a bare aiohttp handler: `python -m bench`. Development only; not part of the package."""
