//! The operations of a decoder, forward and backward, on a device.
