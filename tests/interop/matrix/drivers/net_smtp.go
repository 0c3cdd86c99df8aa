// Go's net/smtp with a given message. It reads the authority from SSL_CERT_FILE.
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"strings"
)

func send(field []string) error {
	server := net.JoinHostPort("localhost", field[1])
	content, err := os.ReadFile(field[10])
	if err != nil {
		return err
	}
	to := strings.FieldsFunc(field[5]+","+field[6], func(r rune) bool { return r == ',' })
	var auth smtp.Auth
	if field[2] != "" {
		auth = smtp.PlainAuth("", field[2], "secret", "localhost")
	}
	if field[0] != "implicit" {
		// It uses STARTTLS if the server offers it.
		return smtp.SendMail(server, auth, field[3], to, content)
	}
	connection, err := tls.Dial("tcp", server, nil)
	if err != nil {
		return err
	}
	client, err := smtp.NewClient(connection, "localhost")
	if err != nil {
		return err
	}
	defer client.Close()
	if auth != nil {
		if err = client.Auth(auth); err != nil {
			return err
		}
	}
	if err = client.Mail(field[3]); err != nil {
		return err
	}
	for _, address := range to {
		if err = client.Rcpt(address); err != nil {
			return err
		}
	}
	data, err := client.Data()
	if err != nil {
		return err
	}
	if _, err = data.Write(content); err != nil {
		return err
	}
	if err = data.Close(); err != nil {
		return err
	}
	return client.Quit()
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		told := "sent\t"
		if err := send(strings.Split(strings.TrimSuffix(line, "\n"), "\t")); err != nil {
			told = "failed\t" + err.Error()
		}
		fmt.Println(strings.ReplaceAll(told, "\n", " "))
	}
}
