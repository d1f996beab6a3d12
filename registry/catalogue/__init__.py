"""How names become entries: adoption, signatures, grammar, cache, plug-ins."""
