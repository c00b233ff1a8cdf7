package lab

import "testing"

func TestFreePortIsNotGivenTwice(t *testing.T) {
	given := make(map[int]bool)
	for range 2000 { // by chance alone, some would repeat
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if given[port] {
			t.Fatalf("port %d was given twice", port)
		}
		given[port] = true
	}
}
