package app

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

func TestAForgetfulStoreRendersAnew(t *testing.T) {
	dir := t.TempDir()
	if err := WriteImage(dir, 1); err != nil {
		t.Fatal(err)
	}
	s, err := newServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	st := s.store.Load()
	first := func() *byte {
		b, ok := st.item(Key(1))
		if !ok {
			t.Fatal("no item")
		}
		return &b[0]
	}
	cached := first()
	if first() != cached {
		t.Fatal("the item is not cached")
	}
	s.plant(Command{Do: Forget})
	if first() == cached {
		t.Error("the item still comes from the cache")
	}
	s.plant(Command{Do: Mend})
	if again := first(); first() != again {
		t.Error("the cache does not work after the mend")
	}
}

func TestTheBackendIsAskedBeforeEachItem(t *testing.T) {
	var asked atomic.Int32
	b := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer b.Close()
	dir := t.TempDir()
	if err := WriteImage(dir, 1); err != nil {
		t.Fatal(err)
	}
	s, err := newServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.backend = b.URL
	for range 3 {
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/item/"+Key(1), nil))
		if w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("the backend was asked %d times for 3 items", n)
	}
}
