"""Attacks on the sandbox, each with an unsandboxed control that succeeds: without it a refusal would prove nothing."""
