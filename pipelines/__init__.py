"""The pipeline: envelopes in, table rows and Arize uploads out."""
