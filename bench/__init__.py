"""Measures the budgets against a bare aiohttp handler: `python -m bench`. Development only; not part of the package."""
