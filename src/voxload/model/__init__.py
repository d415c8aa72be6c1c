"""What a run is: scenario, plan, outcomes, metrics. No I/O."""
