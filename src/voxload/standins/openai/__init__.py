"""A stand-in for Azure OpenAI's and OpenAI's chat completions."""
