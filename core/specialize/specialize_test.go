package specialize

import (
	"testing"

	ft "github.com/fettle-dev/fettle"
)

func TestOfferedComesFromTheWorksOwnHooksFirst(t *testing.T) {
	hook := &ft.Hook{Signal: "HUP"}
	p := ft.Pool{
		Image: ft.Image{Hooks: ft.Hooks{SoftReset: hook}}, Initial: "shop",
		Specializations: []ft.Specialization{{Name: "shop", Hooks: ft.Hooks{Reload: hook}}},
	}
	if got := Offered(&p, Initial(&p)); got != (Offer{Reload: true, SoftReset: true}) {
		t.Fatalf("shop offers %+v", got)
	}
	if got := Offered(&p, ft.Work{}); got != (Offer{SoftReset: true}) {
		t.Fatalf("a bare one offers %+v", got)
	}
}
