"""From noise to latents: the noise schedules, guidance, and DDIM."""
