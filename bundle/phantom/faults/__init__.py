"""Damage that real releases have, planted one fault a participant, with what a reader should make of it."""

from bundle.phantom.faults import film, mri, placement, tables
from bundle.phantom.faults.registry import FAULTS, PACKAGINGS, SOUND, Fault, Rows, fault_of, faults_for

__all__ = ["FAULTS", "PACKAGINGS", "SOUND", "Fault", "Rows", "fault_of", "faults_for"]
__all__ += ["film", "mri", "placement", "tables"]
