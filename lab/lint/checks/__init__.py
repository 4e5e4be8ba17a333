"""Every check, by number. One function each; its docstring is its documentation."""

from __future__ import annotations

from lab.lint.checks.local_table import src_valid_mark
from lab.lint.checks.magic_number import magic_number
from lab.lint.checks.nat_first_packet import mark_in_nat
from lab.lint.checks.output_reroute import output_without_reroute
from lab.lint.checks.outside_mask import inverse_mask, value_outside_mask
from lab.lint.checks.policy_rules import policy_without_mask, terminal_policy
from lab.lint.checks.stored_whole import stored_whole
from lab.lint.checks.strict_equality import strict_equality
from lab.lint.checks.translated import translated
from lab.lint.checks.unmasked_copy import unmasked_copy
from lab.lint.checks.unmasked_set import unmasked_set
from lab.lint.checks.xt_listing import xt_listing
from lab.lint.finding import Check

CHECKS = (
    Check("FWM001", "unmasked-set", "error", unmasked_set),
    Check("FWM002", "unmasked-copy", "error", unmasked_copy),
    Check("FWM003", "stored-whole", "error", stored_whole),
    Check("FWM004", "strict-equality", "warning", strict_equality),
    Check("FWM005", "policy-without-mask", "warning", policy_without_mask),
    Check("FWM006", "terminal-policy", "warning", terminal_policy),
    Check("FWM007", "magic-number", "error", magic_number),
    Check("FWM008", "output-without-reroute", "error", output_without_reroute),
    Check("FWM009", "src-valid-mark", "warning", src_valid_mark),
    Check("FWM010", "mark-in-nat", "error", mark_in_nat),
    Check("FWM011", "translated", "error", translated),
    Check("FWM012", "xt-listing", "warning", xt_listing),
    Check("FWM013", "value-outside-mask", "error", value_outside_mask),
    Check("FWM014", "inverse-mask", "error", inverse_mask),
)
