package xdp

import "errors"

// Mode is how the program is attached to an interface.
type Mode uint8

const (
	Auto    Mode = iota // native, or generic where that is not possible
	Native              // in the driver, before the kernel allocates anything for the packet
	Generic             // in the network stack, any interface; slow
)

// String is the mode's name as in the configuration file.
func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case Native:
		return "native"
	case Generic:
		return "generic"
	}
	return "unknown"
}

// Attachment is the program on one interface.
type Attachment struct {
	mode   Mode
	native error
}

// Mode is the mode got: Native or Generic.
func (a *Attachment) Mode() Mode { return a.mode }

// NativeError says why native mode was not possible, when Auto fell back to Generic; else nil.
func (a *Attachment) NativeError() error { return a.native }

// Close detaches the program from the interface and removes its pin.
func (a *Attachment) Close() error { return errors.ErrUnsupported }

// Attach puts the program on an interface.
func (p *Program) Attach(ifindex int, mode Mode) (*Attachment, error) { return nil, errors.ErrUnsupported }
