// Package specialize says which work instances get and what a work offers: which data a new instance starts with, and
// whether its program declares how to reload or reset itself. Predicting whose work is wanted next is built on this.
package specialize

import ft "github.com/fettle-dev/fettle"

// Initial is the work that a new instance of the pool gets.
func Initial(p *ft.Pool) ft.Work { return p.InitialWork() }

// Offer is what can be done to an instance of a certain work without taking its process away.
type Offer struct {
	Reload    bool // load libraries or data again: the light re-specialisation
	SoftReset bool // reload essential data and configuration, keep state
	Verify    bool // tell whether it is in order after a reset
}

// Offered derives the offer from the hooks that the pool declares for the work.
func Offered(p *ft.Pool, w ft.Work) Offer {
	h := p.Hooks(w)
	return Offer{Reload: h.Reload != nil, SoftReset: h.SoftReset != nil, Verify: h.Verify != nil}
}
