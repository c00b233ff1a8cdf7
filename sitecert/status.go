package sitecert

import (
	"crypto/x509"
	"time"
)

// State is where a site's certificate stands.
type State string

// The states.
const (
	StateAwaiting State = "awaiting_certificate"
	StateActive   State = "active"
	StateExpiring State = "expiring"
	StateExpired  State = "expired"
)

// Status describes a site's certificate.
type Status struct {
	FQDN  string `json:"fqdn"`
	State State  `json:"state"`
	// KeySize is the size of the key in use, in bits.
	KeySize int `json:"key_size"`

	// What follows is of the installed certificate, if there is one.
	Subject   string    `json:"subject,omitempty"`
	Issuer    string    `json:"issuer,omitempty"`
	Names     []string  `json:"names,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Signature string    `json:"signature,omitempty"`
	// Chain has the subject of each certificate that is sent, and of the root
	// if it came with them.
	Chain     []string  `json:"chain,omitempty"`
	Installed time.Time `json:"installed,omitzero"`
	// Note is what the operator should know of the chain.
	Note string `json:"note,omitempty"`

	// Renewal is there if a second key and CSR wait to be signed.
	Renewal *Renewal `json:"renewal,omitempty"`
}

// Renewal describes a prepared renewal.
type Renewal struct {
	Created time.Time `json:"created"`
}

// Status returns where the site's certificate stands now.
func (s *Site) Status() Status {
	st := s.state.Load()
	status := Status{FQDN: s.FQDN(), State: StateAwaiting, KeySize: st.key.N.BitLen()}
	if renewal := st.record.Renewal; renewal != nil {
		status.Renewal = &Renewal{Created: renewal.Created}
	}
	if len(st.chain) == 0 {
		return status
	}
	leaf := st.serve.Leaf
	status.State = s.stateOf(leaf)
	status.Subject, status.Issuer = leaf.Subject.String(), leaf.Issuer.String()
	status.Names = namesOf(leaf)
	status.NotBefore, status.NotAfter = leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	status.Signature = leaf.SignatureAlgorithm.String()
	status.Installed = st.record.Current.Installed
	for _, cert := range st.chain {
		status.Chain = append(status.Chain, cert.Subject.String())
	}
	if last := st.chain[len(st.chain)-1]; !selfSigned(last) && len(s.config.Roots) == 0 {
		status.Note = "phones must know " + last.Issuer.String() + ", which signed the last certificate of the chain"
	}
	return status
}

func (s *Site) stateOf(leaf *x509.Certificate) State {
	now := s.config.Now()
	switch {
	case now.After(leaf.NotAfter):
		return StateExpired
	case now.After(leaf.NotAfter.Add(-s.config.RenewBefore)):
		return StateExpiring
	}
	return StateActive
}
