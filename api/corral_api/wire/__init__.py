"""What travels over HTTP: requests decoded and answers encoded as Ollama's clients expect."""
