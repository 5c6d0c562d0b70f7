"""What users do with whole recordings: denoise, stream, generate, vocode, find anomalies.

Each task has a function on arrays and one on files. The way through the denoiser is in
`streaming`; words of the command line are in `cli`; scores are in `evaluation`.
"""
