"""A plugin of pytest's for mutants: that a test fails is enough, and making its example small would take longer than all else."""

from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("mutants")
