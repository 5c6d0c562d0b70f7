"""How close an estimate is to its reference, and how honest draws of it are.

Metrics of one estimate take `estimate` and `reference` as tensors or arrays of shape (L,) or (B, L)
and return a float64 tensor of shape () or (B,); higher is better for SNR, SI-SDR, cosine, PESQ and
ESTOI, lower for the rest. Those of draws and bands are described with each.
"""

from signal_diffusion.metrics.closeness import (
    cosine_similarity,
    envelope_peak,
    envelope_peak_error,
    kurtosis_error,
    log_spectral_distance,
    mad,
    multi_resolution_error,
    prd,
    si_sdr,
    snr,
    ssd,
    voice_lost,
)
from signal_diffusion.metrics.distributions import (
    coverage,
    crps_of_draws,
    crps_of_normal,
    diversity,
    frechet_distance,
)
from signal_diffusion.metrics.listening import dnsmos, estoi, pesq_wb

__all__ = [
    "cosine_similarity",
    "coverage",
    "crps_of_draws",
    "crps_of_normal",
    "diversity",
    "dnsmos",
    "envelope_peak",
    "envelope_peak_error",
    "estoi",
    "frechet_distance",
    "kurtosis_error",
    "log_spectral_distance",
    "mad",
    "multi_resolution_error",
    "pesq_wb",
    "prd",
    "si_sdr",
    "snr",
    "ssd",
    "voice_lost",
]
