"""cfdiff tune: the settings that flip enough with the smallest change."""
