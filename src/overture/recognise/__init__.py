"""From the frames of an encoder to text with times: units, decoding with an n-gram model, alignment, recognisers on disk."""
