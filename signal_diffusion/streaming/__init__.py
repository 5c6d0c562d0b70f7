"""A recording of any length through a denoiser: settings, pieces, gain, missing samples.

What is here sees blocks of samples and has bounded memory; results don't depend on the blocks.
Whole tasks and files are in `tasks`.
"""
