"""Load on chat completions of Azure OpenAI and of anything that speaks OpenAI's API."""
