// The port state machine of a domain: allocation and transitions. [XE-MOD-06, XE-MOD-10..15]

export {};
